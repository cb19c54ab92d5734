"""`avdetect serve`: the web application."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Annotated

import typer

TOKEN = "AVDETECT_TOKEN"


def serve(
    host: Annotated[
        str, typer.Option(help=f"Address to listen on; others than loopback need ${TOKEN}.")
    ] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=1, max=65535)] = 8000,
    data: Annotated[
        Path | None, typer.Option(help="Folder of jobs and results (default: the user's data folder).")
    ] = None,
    bundle: Annotated[str | None, typer.Option(help="Detector, as `avdetect predict` takes it.")] = None,
    workers: Annotated[
        int, typer.Option(min=1, max=64, help="Files analysed at once; each takes a gigabyte or more.")
    ] = 1,
    without_token: Annotated[
        bool, typer.Option("--without-token", help="Let everybody in who can reach it.")
    ] = False,
    allow_host: Annotated[
        list[str] | None,
        typer.Option(help="Name under which the server is reached, as of a proxy; repeatable."),
    ] = None,
    max_mb: Annotated[float, typer.Option(min=0.1, help="Largest upload.")] = 500,
    max_seconds: Annotated[float, typer.Option(min=1, help="Longest recording.")] = 600,
    max_megapixels: Annotated[float, typer.Option(min=0.01, help="Largest picture or frame.")] = 36,
    time_limit: Annotated[float, typer.Option(min=1, help="Seconds that one analysis may take.")] = 600,
    memory_gb: Annotated[
        float, typer.Option(min=0.2, help="Memory that one analysis may take beside the networks.")
    ] = 4,
    jobs_per_client: Annotated[int, typer.Option(min=1, help="Files of one browser that may wait.")] = 20,
    queue: Annotated[int, typer.Option(min=1, help="Files that may wait in all.")] = 200,
    keep_uploads: Annotated[float, typer.Option(min=0, help="Hours that an analysed file is kept.")] = 1,
    keep_results: Annotated[float, typer.Option(min=0.01, help="Days that a result is kept.")] = 30,
    samples: Annotated[bool, typer.Option(help="Offer sample clips, drawn by the program.")] = True,
) -> None:
    """Serve a web page and a REST interface that judge uploaded files; on this machine alone by default."""
    from avdetect.errors import ConfigError
    from avdetect.inference.card import choose_bundle
    from avdetect.web import Limits, Settings

    try:
        from avdetect.web.server import data_folder, run
    except ModuleNotFoundError as error:
        raise ConfigError(f'serving needs {error.name}: pip install "avdetect[web]"') from error

    limits = Limits(
        upload_bytes=round(max_mb * 1e6), duration_s=max_seconds, pixels=round(max_megapixels * 1e6),
        time_s=time_limit, memory_bytes=round(memory_gb * 1e9), jobs_per_client=jobs_per_client, queue=queue,
    )  # fmt: skip
    settings = Settings(
        data=(data or data_folder()).absolute(),
        bundle=choose_bundle(bundle, lambda text: print(f"avdetect: {text}", file=sys.stderr)),
        host=host, port=port, token=os.environ.get(TOKEN) or None, without_token=without_token,
        hosts=tuple(allow_host or ()), workers=workers, keep_uploads_s=keep_uploads * 3600,
        keep_results_s=keep_results * 86400, samples=samples, limits=limits,
    )  # fmt: skip
    run(settings)
