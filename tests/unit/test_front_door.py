"""The front door: at most 25 names, each there, each spelled out on purpose."""

import epochal


def test_the_front_door_is_what_it_says_and_small():
    assert len(epochal.__all__) <= 25
    assert epochal.__all__ == sorted(epochal.__all__)
    for name in epochal.__all__:
        assert getattr(epochal, name) is not None


def test_every_error_has_a_code_of_its_own_and_stands_in_the_drawn_tree():
    from epochal import errors

    classes = [
        value
        for value in vars(errors).values()
        if isinstance(value, type) and issubclass(value, errors.EpochalError)
    ]
    assert len(classes) >= 30
    codes = [cls.code for cls in classes]
    assert len(set(codes)) == len(codes)
    for cls in classes:
        assert f" {cls.__name__} " in f" {errors.__doc__} ".replace("\n", " ")
