"""The notes on an error, without the one of its code, which every error of Epochal has."""


def notes_of(error: BaseException) -> list[str]:
    """What a change added to an error."""
    return [note for note in getattr(error, "__notes__", ()) if not note.startswith("[")]
