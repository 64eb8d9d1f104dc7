"""Designs: pairing, confounding, what so few samples cannot show, and columns that cannot be used."""

from dataclasses import replace

import numpy as np
import pytest

from cellmodel.core.errors import InputUnusable
from cellmodel.explain.samples.design import SampleConfig, design_of, find_replicates, limits_of, paired_design
from cellmodel.io.cells import ObsCategories

CONFIG = SampleConfig(sample_key="donor", condition_key="stim", batch_key="run")


def column(key, values):
    names, codes = np.unique(list(map(str, values)), return_inverse=True)
    return ObsCategories(key=key, names=tuple(names.tolist()), codes=codes)


def found(donors, conditions, batches=None, **changes):
    """One cell a replicate."""
    config = replace(CONFIG, **{"batch_key": None if batches is None else "run"} | changes)
    given = None if batches is None else column("run", batches)
    return find_replicates(column("donor", donors), column("stim", conditions), given, config=config)


def design(replicates, **more):
    return design_of(replicates, 1, usable=np.ones(len(replicates.sample), dtype=bool), **more)


def test_donors_with_both_conditions_are_blocks_and_others_are_not():
    both, apart = found("aabbcc", "xyxyxy"), found("abcdef", "xxxyyy")
    assert (both.is_paired, apart.is_paired) == (True, False)
    assert "paired by 'donor'" in both.notes[1]
    assert (design(both).n_samples, design(both).df) == ((3, 3), 2)
    assert (design(apart).n_samples, design(apart).df) == ((3, 3), 4)


def test_a_donor_without_its_counterpart_is_left_out_and_named():
    some = found("aabbc", "xyxyx")
    assert "left out: c" in some.notes[1]
    assert design(some).n_samples == (2, 2)
    few = found("aabcde", "xyxyxy")
    assert "not paired" in few.notes[1]
    assert "left out: a" in few.notes[1]
    assert design(few).n_samples == (2, 2)


def test_the_reference_is_first_and_said_where_it_was_not_chosen():
    assert found("abcd", "xxyy").conditions == ("x", "y")
    assert "'x' is the reference" in found("abcd", "xxyy").notes[0]
    chosen = found("abcd", "xxyy", reference="y")
    assert (chosen.conditions, chosen.notes) == (("y", "x"), ())


def test_batches_are_adjusted_for_where_they_can_be():
    crossed = found("abcdefgh", "xxxxyyyy", "ppqqppqq")
    assert design(crossed).df == 5
    assert design(crossed, confounded_ok=True).df == 5
    assert design(found("abcdefgh", "xxxxyyyy")).df == 6


def test_a_condition_that_batches_determine_is_refused_unless_allowed():
    with pytest.raises(InputUnusable, match=r"'stim' is confounded with 'run'.*confounded_ok=True"):
        found("abcd", "xxyy", "ppqq")
    allowed = found("abcd", "xxyy", "ppqq", confounded_ok=True)
    assert design(allowed, confounded_ok=True).reason == ""
    assert "confounded with the batch" in design(allowed).reason
    with pytest.raises(InputUnusable, match="sample 'a' are in several batches"):
        found("aab", "xxy", "pqp")


def test_one_sample_a_side_has_no_test():
    assert "one sample on a side" in design(found("ab", "xy")).reason
    assert "one sample on a side" in design(found("abc", "xyy")).reason
    assert (
        "a side has no sample with enough cells; a `batch_key` of samples integrates clusters that follow them"
        in design_of(found("ab", "xy"), 1, usable=np.array([True, False])).reason
    )


def test_what_few_samples_cannot_show():
    two = design(found("abcd", "xxyy"))
    assert two.least_p == pytest.approx(2 / 6)
    assert "2 and 2 samples" in limits_of(two)
    assert "2 residual degrees of freedom" in limits_of(two)
    assert design(found("aabb", "xyxy")).least_p == 0.5
    assert design(found("abcde", "xxyyy")).least_p == pytest.approx(1 / 10)
    assert limits_of(design(found("abcdefgh", "xxxxyyyy"))) == ""
    assert paired_design(np.arange(6)).least_p == pytest.approx(2 / 2**6)


def test_conditions_that_cannot_be_compared():
    with pytest.raises(InputUnusable, match="holds the condition 'x' alone"):
        found("ab", "xx")
    with pytest.raises(InputUnusable, match="no condition 'z'"):
        found("ab", "xy", reference="z")
    with pytest.raises(InputUnusable, match="60 values, which are measured"):
        found(range(60), range(60))


def test_settings_that_do_not_go_together():
    with pytest.raises(ValueError, match="`reference` goes with `condition_key`"):
        SampleConfig(sample_key="donor", reference="x")
    with pytest.raises(ValueError, match="min_cells must be >= 1"):
        SampleConfig(sample_key="donor", min_cells=0)
