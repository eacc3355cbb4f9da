"""A replica that is told to go while it works on a long batch answers it first."""

import asyncio
import signal
from pathlib import Path

import httpx
import yaml

from loadtest.scale_run import STAGES, Plan, config_for
from tests.serve.load import row_of
from tests.serve.serving import Served, sentinel_serve

ROWS = 20_000
"""Some seconds of work."""
CALLERS = 6
"""So many that each router has some."""


def write(config: Path, bundle: str, bounds: tuple[int, int]) -> None:
    content = config_for(Plan(policy={}), bundle)
    for deployment in content["applications"][0]["deployments"]:
        if deployment["name"] in STAGES:
            low, high = bounds
            deployment["autoscaling_config"] |= {"min_replicas": low, "max_replicas": high}
    config.write_text(yaml.safe_dump(content))


async def long_batches(served: Served) -> list[int]:
    """The statuses of long batches under way while replicas are told to go."""
    limits = httpx.Limits(max_connections=CALLERS, max_keepalive_connections=0)
    async with httpx.AsyncClient(
        base_url=served.url, timeout=120, trust_env=False, limits=limits
    ) as client:

        async def batch(caller: int) -> int:
            rows = [row_of(number, f"c{caller}-") for number in range(ROWS)]
            answer = await client.post("/predict/batch", json=rows)
            while answer.status_code == 503:  # no room: so many at once wait too long for it
                await asyncio.sleep(0.2)
                answer = await client.post("/predict/batch", json=rows)
            assert len(answer.json().get("results", [])) == ROWS, answer.text[:300]
            return answer.status_code

        callers = [asyncio.create_task(batch(caller)) for caller in range(CALLERS)]
        await asyncio.sleep(0.5)
        served.process.send_signal(signal.SIGHUP)  # reads the config again: one of each now
        return await asyncio.gather(*callers)


def test_a_long_batch_on_a_replica_that_is_stopped_is_answered(
    plain_bundle: str, tmp_path: Path
) -> None:
    config = tmp_path / "config.yaml"
    write(config, plain_bundle, (2, 2))
    with sentinel_serve(plain_bundle, tmp_path, str(config)) as served:
        for stage in STAGES:
            served.wait_for_replicas(stage, 2)
        write(config, plain_bundle, (1, 1))
        assert asyncio.run(long_batches(served)) == [200] * CALLERS
        for stage in STAGES:
            served.wait_for_replicas(stage, 1)
