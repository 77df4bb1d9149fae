"""What plugins do to the process's own tables, and what libraries do that they import."""

from tests.mutants.mutant import Mutant, delete, replace

IMPORTS = "tests/integration/test_first_imports.py::"

MUTANTS = (
    Mutant(
        "imports.libraries-keep-their-entries",
        "imports",
        "what a library registers as a plugin imports it is taken for the plugin's",
        module="epochal._core.generation.side_effects",
        where="_ChangesNoted._note",
        at="for 0",
        edit=delete(),
        shape="7856a7",
        test=IMPORTS + "test_a_library_keeps_what_it_registered_as_it_was_imported",
    ),
    Mutant(
        "imports.of-other-threads",
        "imports",
        "an import that goes on in another thread is not seen",
        module="epochal._core.generation.side_effects",
        where="_ChangesNoted._note",
        at="for 0 / iter",
        edit=replace("self.imports"),
        shape="1a23da",
        test=IMPORTS + "test_an_import_of_the_hosts_thread_is_the_librarys",
    ),
    Mutant(
        "imports.own-code-within",
        "imports",
        "what the plugin's code registers within a library's import is taken for the library's",
        module="epochal._core.generation.watched_table",
        where="NamedTable.carry_over",
        at="if 1 / test",
        edit=replace("True"),
        shape="8a9525",
        test=IMPORTS
        + "test_what_the_plugins_code_registers_within_a_librarys_import_is_the_plugins",
    ),
    Mutant(
        "imports.late-loading",
        "imports",
        "a module that is loaded at its first use goes unnoticed",
        module="epochal.loaders._import_notes",
        where="_NotedSpec.__setattr__",
        at="expr 4",
        edit=delete(),
        shape="c1a40e",
        test=IMPORTS + "test_a_library_keeps_what_it_registered_as_it_was_imported",
    ),
    Mutant(
        "imports.end",
        "imports",
        "what a library's function registers after the import is taken for the library's",
        module="epochal.loaders._import_notes",
        where="_NotedSpec.__setattr__",
        at="expr 3",
        edit=delete(),
        shape="823442",
        test=IMPORTS + "test_what_a_library_registers_for_the_plugin_later_is_the_plugins",
    ),
    Mutant(
        "imports.hang",
        "imports",
        "an import that never returns keeps the entries of other plugins in memory",
        module="epochal._core.generation.side_effects",
        where="_ChangesNoted.forget",
        at="if 1",
        edit=delete(),
        shape="abafc9",
        test=IMPORTS + "test_an_import_that_never_returns_holds_no_other_plugin",
    ),
)
