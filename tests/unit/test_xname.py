"""xnames: one spelling per place, ranges of EX, the right kind of component."""

import pytest

from sitewright.site.xname import Xname, XnameError, XnameType


@pytest.mark.parametrize(
    ("text", "xname"),
    [
        (" X1000C0S03B00N01 ", "x1000c0s3b0n1"),
        ("x1000c0s03b0n0", "x1000c0s3b0n0"),
        ("x0012c7s7b1n0", "x12c7s7b1n0"),
        ("x3000c0s42b4n0", "x3000c0s42b4n0"),
    ],
)
def test_blanks_case_and_zeros_are_taken_away(text, xname):
    """As Cray-HPE/hms-xname does it (xnametypes/hmstypes.go), which does not check in the same step."""
    assert str(Xname.parse(text)) == xname
    assert Xname.parse(text) == Xname.parse(xname)
    assert hash(Xname.parse(text)) == hash(Xname.parse(xname))


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("x1000", XnameType.CABINET),
        ("x1000c3", XnameType.CHASSIS),
        ("x1000c3b0", XnameType.CHASSIS_BMC),
        ("x1000c3s5", XnameType.BLADE),
        ("x1000c3s5b1", XnameType.NODE_BMC),
        ("x1000c3s5b1n0", XnameType.NODE),
        ("x1000c3s5b1n0a3", XnameType.ACCELERATOR),
        ("x1000c3s5b1n0h3", XnameType.NODE_HSN_NIC),
        ("x1000c3s5b1n0i0", XnameType.NODE_NIC),
        ("x1000c3s5b1n0p0", XnameType.PROCESSOR),
        ("x1000c3r5b0", XnameType.ROUTER_BMC),
        ("x1000e1", XnameType.CEC),
        ("x3000m0", XnameType.PDU_CONTROLLER),
    ],
)
def test_the_letters_tell_the_kind(text, kind):
    assert Xname.parse(text, kind).type is kind


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("x1000c9s0b0n0", "chassis c9, an EX cabinet has c0 to c7"),
        ("x1000c0s0n0", "the BMC .* is missing after x1000c0s0"),
        ("x1000c0b0n0", "the slot .* is missing after x1000c0"),
        ("x10000c0s0b0n0", "cabinet x10000, an EX cabinet has x0 to x9999"),
        ("x1000c0s8b0n0", "slot s8, an EX cabinet has s0 to s7"),
        ("x1000c0s0b2n0", "BMC b2, an EX cabinet has b0 to b1"),
        ("x1000c0s0b0n8", "node n8"),
        ("x1000c0b1", "BMC b1, an EX cabinet has b0 to b0"),
        ("x3000c1s1b0n0", "chassis c1, a standard rack has c0 to c0"),
        ("x3000c0s0b0n0", "rack unit s0, a standard rack has s1 to s64"),
        ("nid000001", "starts with x"),
        ("x1000c0s0b0n", "'n' is not"),
        ("x1000c0s0b0n0q1", "q1 cannot follow x1000c0s0b0n0"),
        ("x1000c0s0b0n-1", "'-' is neither a letter nor a digit"),
        ("x1000 c0", "' ' is neither"),
        ("", "an empty text"),
    ],
)
def test_what_is_no_xname_is_refused_by_its_faulty_part(text, reason):
    with pytest.raises(XnameError, match=reason):
        Xname.parse(text)


def test_a_node_where_a_bmc_is_wanted_is_refused_with_its_bmc():
    with pytest.raises(XnameError, match=r"is a Node, a NodeBMC .* is wanted; its NodeBMC is x1000c0s0b0"):
        Xname.parse("x1000c0s0b0n0", XnameType.NODE_BMC)


def test_a_node_lies_in_bmc_blade_chassis_and_cabinet():
    node = Xname.parse("x1000c3s5b1n0")
    assert [str(place) for place in (node.bmc, node.blade, node.chassis)] == [
        "x1000c3s5b1",
        "x1000c3s5",
        "x1000c3",
    ]
    assert str(node.chassis_bmc) == "x1000c3b0"
    assert node.parent == node.bmc
    assert Xname.parse("x1000").parent is None
    with pytest.raises(XnameError, match="x1000c3 is a Chassis and lies in no NodeBMC"):
        _ = node.chassis.bmc


def test_xnames_sort_by_place_not_by_text():
    spelled = ["x1000c0s10b0n0", "x1000c0s2b0n0", "x999c0s0b0n0"]
    places = sorted(Xname.parse(text.replace("x1000c0s10", "x3000c0s10")) for text in spelled)
    assert [str(place) for place in places] == ["x999c0s0b0n0", "x1000c0s2b0n0", "x3000c0s10b0n0"]
    assert Xname.parse("x1000c0s0b0") < Xname.parse("x1000c0s0b0n0")
