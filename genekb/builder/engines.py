"""Who encodes the shards of a store: this process, or workers of Ray. Plan, files and commit are the same for both."""

from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec

from genekb.builder.engine import LOCAL, Engine, EngineConfig
from genekb.core.errors import NotAvailable


@contextmanager
def open_engine(
    config: EngineConfig, *, device: str = "auto", threads: int | None = None, trust_remote_code: bool = False
) -> Iterator[Engine]:
    """Give an engine and hand back what it holds; Ray is started, or connected to, when the first text needs it.

    ``device``, ``threads``: how encoders run on workers, see :class:`genekb.encoders.transformers.encoder.Compute`.
    ``trust_remote_code``: whether workers may run code that a model brings, see :func:`genekb.encoders.reopen_encoder`.
    Raises ``NotAvailable`` if Ray is asked for and is not installed.
    """
    if config.name == "local":
        yield LOCAL
        return
    if find_spec("ray") is None:
        raise NotAvailable("--engine ray needs Ray; pip install 'genekb-cellmodel[ray]', or use --engine local")
    from genekb.builder.engine_ray import RayEngine

    engine = RayEngine(
        workers=config.workers,
        stall_timeout_s=config.stall_timeout_s,
        address=config.ray_address,
        device=device,
        threads=threads,
        trust_remote_code=trust_remote_code,
    )
    with engine:
        yield engine
