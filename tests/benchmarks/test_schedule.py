"""The schedule of a thousand million features: what it reads from other benchmarks' records is there."""

from benchmarks.schedule import OTHER, Cluster, Costs, Load, other, stages


def test_costs_of_other_stages_are_kept():
    """Each figure is in its record, and is a cost."""
    assert other().keys() == OTHER.keys()
    assert all(cost > 0 for cost in other().values())


def test_what_ranks_share_takes_less_with_more_of_them():
    """Training, clustering and indexes; what is rank 0's alone takes as long on one machine as on eight."""
    costs = Costs(row=3e-5, batch=8e-4, cell=3e-8, vector=2e-7, place=1e-7, parameter=2e-9, byte=8e-10)
    one, eight = (
        {stage.name: stage.seconds for stage in stages(Load(), Cluster(machines=machines), costs, sharded=False)}
        for machines in (1, 8)
    )
    shared = {"train", "retrain", "cluster, twice", "index, twice"}
    assert {name for name, seconds in eight.items() if seconds < one[name]} == shared
    assert all(eight[name] == one[name] for name in one.keys() - shared)
