"""Hostlists: every name exactly, in any order, quickly."""

import random

import pytest
from ClusterShell.NodeSet import NodeSet

from sitewright.site.hostlist import HostlistError, expand, fold
from tests.unit.function_calls import function_calls

CABINET = "x1000c[0-7]s[0-7]b[0-1]n0"
ALPS = "x[1000-1020]c[0-7]s[0-7]b[0-1]n0"


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("svc-cp", ["svc-cp"]),
        ("svc-cp[1-3]", ["svc-cp1", "svc-cp2", "svc-cp3"]),
        ("rack[0-1]node[0-1]", ["rack0node0", "rack0node1", "rack1node0", "rack1node1"]),
        ("c1001a-s[11,17]", ["c1001a-s11", "c1001a-s17"]),
        ("n[08-11]", ["n08", "n09", "n10", "n11"]),
        ("n[098-101]", ["n098", "n099", "n100", "n101"]),
        ("n[0-9/3]", ["n0", "n3", "n6", "n9"]),
        ("b, a ,b", ["b", "a"]),
        ("a[1-2]b,c[3]", ["a1b", "a2b", "c3"]),
        ("ov_[1-3,2-4]", ["ov_1", "ov_2", "ov_3", "ov_4"]),
    ],
)
def test_a_hostlist_stands_for_these_names_in_this_order(text, names):
    """Products and repeats went wrong elsewhere: flux-framework/flux-core#3284, pytorch/ignite#2208."""
    assert expand(text) == names


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("cn[45-33]", "45-33 runs backwards; write 33-45"),
        ("cn[2-3,36-40-44]", "'36-40-44' is not a number or a range"),
        ("cn[1-3", r"the bracket '\[1-3' is not closed"),
        ("cn1-3]", "closed at character 6 was not opened"),
        ("cn[1-[2-3]]", "a bracket inside the bracket"),
        ("cn[]", "an empty range"),
        ("cn[1,]", "an empty range"),
        ("cn[a-c]", "'a-c' is not a number or a range"),
        ("cn[1-010]", "1-010 pads one end only"),
        ("cn[1-5/0]", "a step of 0"),
        ("cn[0-99999999]", "more than 200,000 names"),
        ("cn[0-999]s[0-999]", "more than 200,000 names"),
        ("a,,b", "a name is missing"),
        ("", "a name is missing"),
        ("@gpu", "'@' cannot be part of a name"),
        ("a b", "' ' cannot be part of a name"),
        ("$(id)", r"'\$' cannot be part of a name"),
    ],
)
def test_what_is_no_hostlist_is_refused_by_its_faulty_part(text, reason):
    """The first two ended in a traceback elsewhere: clustershell/clustershell#36, #105."""
    with pytest.raises(HostlistError, match=reason):
        expand(text)


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("mapr[001-006],mapr07", [*(f"mapr00{number}" for number in range(1, 7)), "mapr07"]),
        ("a1.example.com,a02.example.com", ["a1.example.com", "a02.example.com"]),
    ],
)
def test_mixed_padding_keeps_every_name_in_any_order(text, names):
    """Folding made another host of one of them elsewhere: clustershell/clustershell#381, #404, #293."""
    assert expand(text) == names
    for order in (names, names[::-1], sorted(names)):
        assert set(expand(fold(order))) == set(names)
        assert fold(order) == fold(names)


@pytest.mark.parametrize(
    ("names", "folded"),
    [
        (["n1", "n01", "n001"], "n[1,01,001]"),
        (["n9", "n10", "n08", "n09", "n11"], "n[08-11,9]"),
        (["n099", "n100", "n1000"], "n[099-100,1000]"),
        (["b", "a"], "a,b"),
        (["n10", "n9"], "n[9-10]"),
        (["x0y0", "x0y1", "x1y0", "x1y1"], "x[0-1]y[0-1]"),
        ([], ""),
    ],
)
def test_names_fold_to(names, folded):
    assert fold(names) == folded
    assert set(expand(folded) if folded else []) == set(names)


def test_expand_fold_expand_is_a_fixed_point_for_random_names():
    numbers = random.Random(1)
    for _ in range(200):
        width = numbers.choice([0, 0, 2, 3])
        names = {
            f"{numbers.choice(['cn', 'x1c', 'a-'])}{str(numbers.randrange(130)).zfill(width)}"
            f"{numbers.choice(['', 's0', f's{numbers.randrange(4)}', '.site'])}"
            for _ in range(numbers.randrange(1, 60))
        }
        folded = fold(numbers.sample(sorted(names), len(names)))
        assert set(expand(folded)) == names
        assert fold(expand(folded)) == folded


def test_clustershell_reads_our_hostlists_as_the_same_names():
    numbers = random.Random(2)
    everything = expand("x[1000-1003]c[0-7]s[0-7]b[0-1]n0") + expand("cn[001-120]")
    for size in (1, 7, 60, 300):
        names = numbers.sample(everything, size)
        assert set(NodeSet(fold(names))) == set(names)
        assert set(expand(str(NodeSet.fromlist(names)))) == set(names)


def test_alps_folds_back_to_what_was_written():
    assert fold(random.Random(3).sample(expand(ALPS), 2688)) == ALPS


@pytest.mark.parametrize(("few", "many"), [("nid[001-300]", "nid[0001-3000]"), (CABINET, ALPS)])
def test_the_work_grows_with_the_nodes_and_no_faster(few, many):
    """Seconds are in `make bench`, where another load of the machine fails nothing."""
    per_node = [
        function_calls(lambda text=text: fold(expand(text))) / len(expand(text)) for text in (few, many)
    ]
    assert per_node[1] < 1.2 * per_node[0]
