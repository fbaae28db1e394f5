"""`python -m bench`: runs benches one after the other, and shows what they found."""

import argparse
import itertools
import json
import re
import signal
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from bench import (
    abacus,
    batch,
    cancel,
    custom,
    idle,
    kept,
    latency,
    methods,
    notice,
    primes,
    reconnect,
    release,
    soak,
    submit,
    synchronize,
    throughput,
    watch,
)
from bench.figures import Figure, Results, as_markdown, as_text
from bench.machine import Conditions, Watch
from bench.mesh import BenchMesh, running_mesh


@dataclass(frozen=True, slots=True)
class _Bench:
    """What is measured, and the options of `tallymesh up` for the mesh it is measured on."""

    measure: Callable[[BenchMesh, bool], Sequence[Figure]]
    options: tuple[str, ...] = ()


_ONE_WORKER = ("--workers", "1", "--slots", "2")
#: In this order, so that what is idle has not worked before and what is soaked is fresh;
#: neighbours with the same options share a mesh.
_BENCHES = {
    "idle": _Bench(idle.measure),
    "latency": _Bench(latency.measure),
    "submit": _Bench(submit.measure),
    "throughput": _Bench(throughput.measure),
    "synchronize": _Bench(synchronize.measure),
    "abacus": _Bench(abacus.measure),
    "primes": _Bench(primes.measure),
    "methods": _Bench(methods.measure),
    "reconnect": _Bench(reconnect.measure),
    "release": _Bench(release.measure),
    "notice": _Bench(notice.measure, notice.OPTIONS),
    "kept": _Bench(kept.measure),
    "custom": _Bench(custom.measure, custom.OPTIONS),
    "soak": _Bench(soak.measure, _ONE_WORKER),
    "batch": _Bench(batch.measure, _ONE_WORKER),
    "watch": _Bench(watch.measure, _ONE_WORKER),
    "cancel": _Bench(cancel.measure, _ONE_WORKER),
}
_DOCUMENT = Path(__file__).parents[1] / "docs" / "performance.md"
_SECTION = re.compile("(?<=<!-- figures -->\n).*(?=<!-- end -->)", re.DOTALL)


def main() -> None:
    arguments = _arguments()
    # Told to end, it is to end what it has started.
    signal.signal(signal.SIGTERM, lambda number, _: sys.exit(128 + number))
    chosen = [name for name in _BENCHES if not arguments.benches or name in arguments.benches]
    results, conditions = _run(chosen, arguments.quick)
    if arguments.output == "json":
        figures = {name: [one.as_json() for one in found] for name, found in results.items()}
        print(json.dumps({"conditions": conditions.as_json(), "benches": figures}, indent=2))
    else:
        print(as_text(results))
        print(f"\n{conditions}")
    if arguments.markdown:
        _write_section(results, conditions, arguments.quick)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument(
        "benches", nargs="*", metavar="NAME", help=f"any of {', '.join(_BENCHES)}; default all"
    )
    parser.add_argument("--quick", action="store_true", help="few samples: under half the time")
    parser.add_argument("-o", "--output", choices=("text", "json"), default="text")
    parser.add_argument(
        "--markdown", action="store_true", help="also put the figures into docs/performance.md"
    )
    arguments = parser.parse_args()
    if unknown := [name for name in arguments.benches if name not in _BENCHES]:
        parser.error(f"no bench is called {unknown[0]}: there are {', '.join(_BENCHES)}")
    if arguments.markdown and arguments.benches:
        parser.error("--markdown takes all benches: the document's figures are of one run")
    return arguments


def _run(names: list[str], quick: bool) -> tuple[Results, Conditions]:
    weather = Watch()
    results: dict[str, list[Figure]] = {}
    for options, group in itertools.groupby(names, lambda name: _BENCHES[name].options):
        with running_mesh(*options) as mesh:
            for name in group:
                begun = time.monotonic()
                print(f"{name} …", end=" ", flush=True, file=sys.stderr)
                results[name] = list(_BENCHES[name].measure(mesh, quick))
                print(f"{time.monotonic() - begun:.1f} s", file=sys.stderr)
    return results, weather.conditions()


def _write_section(results: Results, conditions: Conditions, quick: bool) -> None:
    kind = "A quick run" if quick else "A whole run"
    section = f"\n{kind}: {conditions}\n\n{as_markdown(results)}\n\n"
    document = _DOCUMENT.read_text()
    _DOCUMENT.write_text(_SECTION.sub(lambda _: section, document))


if __name__ == "__main__":
    main()
