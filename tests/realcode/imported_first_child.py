"""The child process of `tests.realcode.imported_first`: prints its tables as one line of JSON."""

import json
import sys

from tests.realcode.imported_first import carry_out

if __name__ == "__main__":
    print("\n" + json.dumps(carry_out(*sys.argv[1:])))
