"""What may be said about a boot image."""

import pytest
from pydantic import ValidationError

from modules.nodes.boot_image import BootImageSpec

VALID = {
    "name": "compute",
    "publish_dir": "/srv/boot",
    "url": "http://10.77.0.1:8080/boot",
    "registry": "http://10.77.0.1:5000",
}


def test_a_spec_of_plain_values_is_taken():
    assert BootImageSpec.model_validate(VALID).name == "compute"


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ({"recipe": "compute"}, "recipe\n.*Extra inputs"),
        ({"name": "../compute"}, "name\n.*pattern"),
        ({"url": "10.77.0.1:8080/boot"}, "url\n.*pattern"),
        ({"url": "http://10.77.0.1:8080/boot images"}, "url\n.*pattern"),
        ({"registry": "10.77.0.1:5000"}, "registry\n.*pattern"),
        ({"registry": "http://10.77.0.1:5000/v2"}, "registry\n.*pattern"),
        ({"rke2": {"version": "1.37.2", "artifacts": "http://10.77.0.1/rke2"}}, "rke2.version\n.*pattern"),
        ({"rke2": {"version": "1.37.2+rke2r1", "artifacts": "mirror"}}, "rke2.artifacts\n.*pattern"),
        ({"publish_dir": None}, "publish_dir\n.*valid string"),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
def test_a_wrong_value_is_refused_by_name(more, message):
    with pytest.raises(ValidationError, match=f"(?s){message}"):
        BootImageSpec.model_validate(VALID | more)
