"""llm asks for its models each time: the model of the new version answers."""

import os
import tempfile

os.environ.update(LLM_LOAD_PLUGINS="", LLM_USER_PATH=tempfile.mkdtemp())

from beneath import Program

program = Program("""
import llm

class Echo(llm.Model):
    model_id = "echo"
    def execute(self, prompt, stream, response, conversation):
        yield "{n} " + prompt.prompt

@llm.hookimpl
def register_models(register):
    register(Echo())
""")

import llm

program.load()
for _ in range(10):
    assert llm.get_model("echo").prompt("hello").text() == f"{program.n} hello"
    program.reload(reclaimed=False)
print("llm: 10 reloads, each answered by its own version")
