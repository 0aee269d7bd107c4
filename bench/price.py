"""What a million events cost, from the CPU that one takes and public list prices, without the free tiers."""

from collections.abc import Iterator

# US dollars, Cloud Run in regions of tier 1: https://cloud.google.com/run/pricing
# A second of a vCPU, a second of a GiB, a request; by what is billed.
INSTANCES = (0.000018, 0.000002, 0.0)
REQUESTS = (0.000024, 0.0000025, 0.40e-6)
# Each request by itself is billed in steps of so many seconds.
STEP = 0.1
# A TiB published: https://cloud.google.com/pubsub/pricing
TIB, TIB_BYTES = 40.0, 2**40
# The service: one vCPU, half a GiB; Cloud Run adds instances where more than that share of them is busy.
VCPU, GIB, BUSY = 1.0, 0.5, 0.6
MILLION = 1e6
# A message: the body of 1 KB, attributes, id and time, as Pub/Sub counts them.
MESSAGE_BYTES = 1000 + 450

ASSUMPTIONS = (
    f"1 vCPU, 512 MiB, concurrency 80, tier 1, {BUSY:.0%} of the CPU used under load, a vCPU as fast"
    " as a core here, no free tier, no network"
)


def lines(cpu: float) -> Iterator[tuple[str, float]]:
    """Dollars of a million events that take `cpu` seconds each."""
    seconds = cpu * MILLION / BUSY
    yield "Cloud Run, instance-based billing, under steady load", seconds * _second(INSTANCES)
    yield "Cloud Run, request-based billing, under steady load", seconds * _second(REQUESTS) + _fees()
    yield (
        "Cloud Run, request-based billing, events one at a time",
        MILLION * STEP * _second(REQUESTS) + _fees(),
    )
    yield (
        "Pub/Sub, publishing them (each delivery costs as much again)",
        MILLION * MESSAGE_BYTES / TIB_BYTES * TIB,
    )


def _second(prices: tuple[float, float, float]) -> float:
    return VCPU * prices[0] + GIB * prices[1]


def _fees() -> float:
    return MILLION * REQUESTS[2]
