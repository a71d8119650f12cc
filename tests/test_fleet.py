"""Many traces at once, on every kind of executor, with damaged ones among them."""

import pickle
from concurrent.futures import Executor, Future, ProcessPoolExecutor, ThreadPoolExecutor
from contextlib import closing
from multiprocessing import get_context
from pathlib import Path

import pytest
from test_predict_command import write
from workloads import hot, idle, intervals

from mempattern.errors import UsageError
from mempattern.migration.bandwidth import Bandwidth
from mempattern.migration.fleet import Settings, replay
from mempattern.migration.named import named_policies
from mempattern.migration.policies.qemu import Relaxed, Stock
from mempattern.migration.recording import Recording
from mempattern.migration.registry import POLICIES
from mempattern.migration.simulate import simulate
from mempattern.trace import TraceReader

OWN = Path(__file__).parent / "own_policies.py"
NAMES = ["stock", "relaxed"]
LINKS = [105e6, Bandwidth((0.0, 105e6), (0.5, 300e6))]
CEILINGS = [0.3, 1.0]


@pytest.fixture(scope="module")
def traces(tmp_path_factory):
    """Three that can be replayed, one that is damaged, and one that does not exist."""
    at = tmp_path_factory.mktemp("traces")
    good = [
        write(at / "hot.mpt", intervals(hot(13_300), 40)),
        write(at / "idle.mpt", intervals(idle, 30)),
        write(at / "small.mpt", intervals(hot(100), 20, n_pages=6400)),
    ]
    damaged = at / "damaged.mpt"
    damaged.write_bytes(Path(good[0]).read_bytes()[:9000])
    return [*good[:2], str(damaged), str(at / "none.mpt"), good[2]]


@pytest.fixture(scope="module")
def expected(traces):
    """Done here, without an executor."""
    return list(replay(traces, NAMES, LINKS, CEILINGS))


def by_path(results):
    """As text, since a downtime that there was none of is NaN, which equals nothing."""
    return sorted(map(repr, results))


def test_one_after_the_other_here(traces, expected):
    assert [replayed.path for replayed in expected] == traces
    for replayed in expected[:2] + expected[4:]:
        assert replayed.error == ""
        assert [(case.bandwidth, case.ceiling_s) for case in replayed.cases] == [
            (link, ceiling_s)
            for link in (((0.0, 105e6),), ((0.0, 105e6), (0.5, 300e6)))
            for ceiling_s in CEILINGS
        ]
        assert all([o.policy for o in case.outcomes] == NAMES for case in replayed.cases)


def test_each_case_is_what_simulate_says(traces, expected):
    with TraceReader(traces[0]) as trace:
        recording = Recording(list(trace))
    policies = {name: POLICIES[name] for name in NAMES}
    found = [case.outcomes for case in expected[0].cases]
    assert repr(found) == repr(
        [
            tuple(simulate(recording, policies, link, ceiling_s))
            for link in LINKS
            for ceiling_s in CEILINGS
        ]
    )


def test_what_fails_is_told_in_one_sentence(traces, expected):
    for replayed in expected[2:4]:
        assert (replayed.facts, replayed.cases) == (None, ())
        assert replayed.error
        assert "\n" not in replayed.error
        assert Path(replayed.path).name in replayed.error


def test_results_pickle(expected):
    assert by_path(pickle.loads(pickle.dumps(expected))) == by_path(expected)


def test_threads(traces, expected):
    with ThreadPoolExecutor(3) as pool:
        assert by_path(replay(traces, NAMES, LINKS, CEILINGS, executor=pool)) == by_path(expected)


def test_processes(traces, expected):
    with ProcessPoolExecutor(2, get_context("spawn")) as pool:
        assert by_path(replay(traces, NAMES, LINKS, CEILINGS, executor=pool)) == by_path(expected)


@pytest.mark.parametrize("processes", [False, True])
def test_a_dask_client(processes, traces, expected):
    distributed = pytest.importorskip("distributed")
    options = {"n_workers": 1, "threads_per_worker": 2, "dashboard_address": None}
    with (
        distributed.LocalCluster(processes=processes, **options) as cluster,
        distributed.Client(cluster) as client,
    ):
        found = by_path(replay(traces, NAMES, LINKS, CEILINGS, executor=client))
        assert found == by_path(expected)
        # It is still open, and takes an own policy by the name of its file.
        (one,) = replay(traces[:1], [f"{OWN}:Patient"], [105e6], [0.3], executor=client)
        assert one.cases[0].outcomes[0].passes == 4


def test_policies_as_a_mapping(traces):
    (one,) = replay(traces[:1], {"a": Stock, "b": Relaxed}, [105e6], [1.0])
    assert [outcome.policy for outcome in one.cases[0].outcomes] == ["a", "b"]
    assert [outcome.success for outcome in one.cases[0].outcomes] == [False, True]


def test_settings_reach_the_replay(traces):
    def replayed(**settings):
        (one,) = replay(traces[:1], ["stock"], [105e6], [1.0], Settings(**settings))
        return one.cases[0].outcomes[0]

    usual = replayed()
    assert usual.end == "not converged"
    assert replayed(downtime_limit_s=0.9).success
    assert replayed(patience_s=5.0).total_s < 6 < usual.total_s
    assert replayed(past_end="refuse").end == "trace ended"
    full, fewer = replayed(downtime_limit_s=0.9), {"zero_pages": 12_000, "downtime_limit_s": 0.9}
    assert replayed(**fewer).sent_bytes < full.sent_bytes - 12_000 * 4000
    assert replayed(**fewer | {"zero_pages": "40MiB"}).sent_bytes < full.sent_bytes - 30e6


def test_a_trace_that_memory_does_not_hold(traces):
    (one,) = replay(traces[:1], NAMES, [1e8], [0.3], Settings(memory_share=1e-12))
    assert "record for a shorter time" in one.error


def test_a_worker_that_dies_is_told(traces):
    with ProcessPoolExecutor(1, get_context("spawn")) as pool:
        found = list(replay(traces[:2], [f"{OWN}:Dies"], [1e8], [0.3], executor=pool))
    assert sorted(replayed.path for replayed in found) == traces[:2]
    assert {replayed.error for replayed in found} == {
        "a worker process died, of too little memory or a policy; replay it by itself"
    }


class OnlyTheFirst(Executor):
    """Does one task at once, and none of the others."""

    def __init__(self):
        self.futures = []

    def submit(self, function, /, *arguments):
        future = Future()
        if not self.futures:
            future.set_result(function(*arguments))
        self.futures.append(future)
        return future


def test_what_has_not_begun_is_cancelled_when_the_iterator_is_closed(traces):
    executor = OnlyTheFirst()
    with closing(replay(traces, NAMES, LINKS, CEILINGS, executor=executor)) as running:
        assert next(running).path == traces[0]
    assert [future.cancelled() for future in executor.futures] == [False] + [True] * 4


def test_interrupted_here_the_first_ones_are_known(traces, tmp_path):
    large = write(tmp_path / "large.mpt", intervals(idle, 5, n_pages=30_000))
    running = replay([traces[1], large, traces[4]], [f"{OWN}:Interrupts"], [1e8], [0.3])
    assert next(running).path == traces[1]
    with pytest.raises(KeyboardInterrupt):
        next(running)


@pytest.mark.parametrize(
    ("policies", "bandwidths", "ceilings_s"),
    [([], [1e8], [1.0]), ({}, [1e8], [1.0]), (NAMES, [], [1.0]), (NAMES, [1e8], []),
     (["stok"], [1e8], [1.0]), (NAMES, [0.0], [1.0]), (NAMES, [-1e8], [1.0])],
)  # fmt: skip
def test_what_makes_no_sense_is_refused_at_once(policies, bandwidths, ceilings_s):
    with pytest.raises(UsageError):
        replay(["nowhere.mpt"], policies, bandwidths, ceilings_s)


# ---- policies by name ----------------------------------------------------------------------------


def test_names():
    assert list(named_policies(["relaxed", "stock", "relaxed"])) == ["relaxed", "stock"]
    assert named_policies(["all"]) == POLICIES
    found = named_policies(["stock", f"{OWN}:Patient", "own_policies:Raises"])
    assert list(found) == ["stock", "Patient", "Raises"]
    assert type(found["Patient"]()).__name__ == "Patient"


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("stok", f"there is no policy 'stok'; there are {', '.join(POLICIES)}, all for"),
        ("", "there is no policy ''"),
        ("nowhere.py:Stock", "there is no file nowhere.py"),
        ("no_such_module:Stock", "ModuleNotFoundError: No module named 'no_such_module'"),
        (f"{OWN}:Patent", "has no 'Patent'; its policies are: Patient, Raises"),
        (f"{OWN}:NOT_A_POLICY", "is no policy: neither a class that derives from"),
        (f"{OWN}:NeedsMore", "cannot be made without arguments: TypeError"),
        (f"{OWN}:", "has no ''"),
    ],
)
def test_a_name_that_is_none(name, says):
    with pytest.raises(UsageError) as caught:
        named_policies([name])
    assert says in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("code", "says"),
    [
        ("class P:\n  def", "SyntaxError: invalid syntax"),
        ("import sys\n\n1 / 0\n", "ZeroDivisionError: division by zero (line 3)"),
        ("import sys; sys.exit('bye')", "SystemExit: bye (line 1)"),
        ("import no_such", "ModuleNotFoundError"),
    ],
)
def test_a_file_that_does_not_load(code, says, tmp_path):
    file = tmp_path / "policy.py"
    file.write_text(code)
    with pytest.raises(UsageError) as caught:
        named_policies([f"{file}:P"])
    assert str(caught.value).startswith(f"{file} does not load: {says}")
    assert "\n" not in str(caught.value)


def test_two_policies_of_one_name(tmp_path):
    file = tmp_path / "policy.py"
    file.write_text(
        "from mempattern.migration import Policy\nclass Patient(Policy): pass\nstock = Patient\n"
    )
    for names in ([f"{OWN}:Patient", f"{file}:Patient"], [f"{file}:stock"]):
        with pytest.raises(UsageError, match="has the name of another policy"):
            named_policies(names)


def test_a_compiled_policy(tmp_path):
    pytest.importorskip("mempattern.migration.policies.compiled")
    file = tmp_path / "policy.py"
    file.write_text(
        "from mempattern import jit\n\n@jit.policy\ndef raised(passes):\n    return 0.9\n"
    )
    recorded = write(tmp_path / "t.mpt", intervals(hot(13_300), 40))
    (one,) = replay([recorded], [f"{file}:raised"], [105e6], [1.0])
    assert one.cases[0].outcomes[0].success
