import pytest

from narrows.modalities.motion.lafan1 import Take, take_of


@pytest.mark.parametrize(
    ("name", "take"),
    [
        ("walk1_subject5", Take("walk", 1, "subject5")),
        ("lafan1/fallAndGetUp12_subject4.bvh", Take("fallAndGetUp", 12, "subject4")),
        ("dance2_subject10.csv.gz", Take("dance", 2, "subject10")),
        ("walk_subject5.bvh", None),
        ("walk1_subject.bvh", None),
        ("walk1.bvh", None),
        ("94_01.bvh", None),
        ("my walk1_subject5.bvh", None),
        ("walk1_subject5/clip.bvh", None),
    ],
)
def test_names_of_lafan1(name: str, take: Take | None) -> None:
    assert take_of(name) == take
