"""What is run on a GPU, in order of value, and how long each part may take."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
#: The models of the papers' tables of speed; ratios are to the first.
SEGFORMER = 'mmseg::segformer/segformer_mit-b3_8xb2-160k_ade20k-512x512.py'
ARTA = 'arta-tiny_mask2former_4xb8-80k_ade20k-512x512'
COMPARED = (
    ('SegFormer-B3, head 256', 'model', [SEGFORMER]),
    ('SegFormer-B3, head 768', 'model', [SEGFORMER, 'model.decode_head.channels=768']),
    ('ARTA-Tiny, 30 %', '0.3', [ARTA]),
    ('ARTA-Tiny, caps', 'caps', [ARTA]),
    ('ARTA-Tiny, all tokens', 'full', [ARTA]),
    ('AFF-Tiny-1/5', 'model', ['aff-tiny-1-5_mask2former_4xb8-80k_ade20k-512x512']),
    ('LRFormer-S', 'model', ['lrformer-s_lrhead_4xb4-160k_ade20k-512x512']),
    ('Mask2Former-Swin-T', 'model', ['mask2former_swin-t_8xb2-160k_ade20k-512x512']),
)
#: What a dry run compares: the same families as small as configs have them.
SMALL = (
    ('SegFormer-B0', 'model', ['segformer_mit-b0_1xb4-2k_camvid-256x256']),
    ('ARTA-nano, 30 %', '0.3', ['arta-nano_mask2former_1xb4-2k_camvid-256x256']),
)
#: Trained on real images, and tested.
TRAINED = (
    'arta-nano_mask2former_1xb4-2k_camvid-256x256',
    'segformer_mit-b0_1xb4-2k_camvid-256x256',
    'arta-tiny-scratch_mask2former_1xb4-2k_camvid-256x256',
    'lrformer-t-scratch_lrhead_1xb4-2k_camvid-256x256',
    'aff-mini-scratch_mask2former_1xb4-2k_camvid-256x256',
)


@dataclass(frozen=True)
class Job:
    """One command.

    Attributes:
        name: of its log and of its line in the list of what is done.
        command: its arguments; ``PYTHON`` stands for the interpreter.
        seconds: after which it is ended.
    """

    name: str
    command: tuple[str, ...]
    seconds: float


@dataclass(frozen=True)
class Stage:
    """Jobs that answer one question.

    Attributes:
        name: by which it is asked for.
        says: what it answers.
        seconds: for all its jobs together.
        jobs: in order.
    """

    name: str
    says: str
    seconds: float
    jobs: tuple[Job, ...]


@dataclass(frozen=True)
class Settings:
    """Where and how large.

    Attributes:
        device: 'cuda', or 'cpu' to try the commands out.
        out: folder of results and logs.
        tiny: small models, images and counts.
        camvid: folder of the CamVid images; None leaves training on them out.
    """

    device: str
    out: Path
    tiny: bool
    camvid: Path | None


def stages(settings: Settings) -> list[Stage]:
    """All stages, the most valuable first."""
    return [
        _build(settings),
        _smoke(settings),
        _tests(),
        _models(settings),
        _ops(settings),
        _profile(settings),
        _training(settings),
        _camvid(settings),
    ]


def _python(name: str, seconds: float, *arguments: object) -> Job:
    return Job(name, ('PYTHON', *map(str, arguments)), seconds)


def _build(settings: Settings) -> Stage:
    jobs = [_python('build-cpu', 120, '-m', 'mmseg_arta.ops.build', 'cpu')]
    if settings.device == 'cuda':
        jobs.insert(0, _python('build-cuda', 120, '-m', 'mmseg_arta.ops.build', 'cuda'))
    return Stage('build', 'kernels for this card', 180, tuple(jobs))


def _smoke(settings: Settings) -> Stage:
    size = ['--tiny'] if settings.tiny else []
    job = _python('smoke', 150, 'benchmarks/gpu/smoke_test.py', '--device', settings.device, *size)
    return Stage('smoke', 'every op and the smallest models, both passes, all types', 150, (job,))


def _tests() -> Stage:
    options = ('-q', '-p', 'no:cacheprovider', '--maxfail', '5')
    job = _python('tests', 240, '-m', 'pytest', *options, 'tests/ops/test_gpu.py')
    return Stage('tests', 'the kernels against the reference', 240, (job,))


def _benchmark(settings: Settings, name: str, seconds: float, dtype: str, *options: object) -> Job:
    """Models side by side, with what follows the configs."""
    compared = SMALL if settings.tiny else COMPARED
    configs: list[str] = [part for _, _, parts in compared for part in parts]
    return _python(
        name,
        seconds,
        'tools/benchmark.py',
        *configs,
        '--label',
        *(label for label, _, _ in compared),
        '--allocation',
        *(allocation for _, allocation, _ in compared),
        '--device',
        settings.device,
        '--dtype',
        dtype,
        *options,
        '--json',
        settings.out / f'{name}.json',
        '--markdown',
        settings.out / f'{name}.md',
    )


def _models(settings: Settings) -> Stage:
    shape: Sequence[object] = (96, 128) if settings.tiny else (1024, 2048)
    steps, warmup = (2, 1) if settings.tiny else (32, 4)
    common = ('--protocol', 'inference', '--shape', *shape, '--batch-size', 2)
    common = (*common, '--steps', steps, '--warmup', warmup)
    # Eager first: it needs no compiler, and the papers' figures are in float32.
    eager, graph, compiled = [], ['--cuda-graph'], ['--compile']
    ways = [('fp32', eager), ('bf16', eager), ('bf16', graph), ('tf32', eager), ('fp32', graph)]
    ways += [('bf16', compiled), ('fp32', compiled)]
    jobs = []
    for dtype, way in ways[: 1 if settings.tiny else None]:
        name = '-'.join(['models', dtype, *(option.strip('-') for option in way)])
        limit = 240 if way is compiled else 100
        jobs.append(_benchmark(settings, name, limit, dtype, *common, *way))
    return Stage('models', 'whole models side by side, batch 2 (ARTA table 4)', 480, tuple(jobs))


def _ops(settings: Settings) -> Stage:
    size = ['--quick'] if settings.tiny else []
    types = ('float32',) if settings.tiny else ('float32', 'bfloat16')
    jobs = tuple(
        _python(
            f'ops-{dtype}',
            100,
            'benchmarks/ops.py',
            *('--device', settings.device, '--dtype', dtype, '--batch', 2, '--rounds', 3),
            *('--out', settings.out, *size),
        )
        for dtype in types
    )
    return Stage('ops', 'every op against what the card allows', 200, jobs)


def _profile(settings: Settings) -> Stage:
    config = TRAINED[0] if settings.tiny else ARTA
    shape: Sequence[object] = (96, 128) if settings.tiny else (1024, 2048)
    jobs = tuple(
        _python(
            f'profile-{dtype}',
            60,
            'benchmarks/gpu/profile_model.py',
            *(config, '--allocation', '0.3', '--shape', *shape, '--device', settings.device),
            *('--dtype', dtype, '--json', settings.out / f'profile-{dtype}.json'),
        )
        for dtype in (('fp32',) if settings.tiny else ('fp32', 'bf16'))
    )
    return Stage('profile', 'kernels that take most time, and gaps between them', 120, jobs)


def _training(settings: Settings) -> Stage:
    cases = [('cityscapes', (1024, 1024), 8), ('ade20k', (512, 512), 16)]
    if settings.tiny:
        cases = [('small', (64, 64), 2)]
    jobs = []
    for name, shape, batch in cases:
        for dtype in ('fp32', 'bf16')[: 1 if settings.tiny else 2]:
            common = ('--protocol', 'train', '--shape', *shape, '--batch-size', batch)
            common = (*common, '--steps', 2 if settings.tiny else 8, '--warmup', 1)
            jobs.append(_benchmark(settings, f'train-{name}-{dtype}', 120, dtype, *common))
    return Stage('train', 'time and memory of training steps', 300, tuple(jobs))


def _camvid(settings: Settings) -> Stage:
    jobs: list[Job] = []
    root = settings.camvid
    iterations = 2 if settings.tiny else 2000
    for config in TRAINED[: 1 if settings.tiny else None] if root else ():
        folder = settings.out / 'runs' / config
        data = [f'{part}_dataloader.dataset.data_root={root}' for part in ('train', 'val', 'test')]
        options = ['--gpus', int(settings.device == 'cuda'), '--work-dir', folder]
        overrides = [f'train_cfg.max_iters={iterations}', f'train_cfg.val_interval={iterations}']
        overrides += [f'default_hooks.checkpoint.interval={iterations}', *data]
        short = config.partition('_1xb4')[0]
        amp = ['--amp'] if settings.device == 'cuda' else []
        (path,) = (ROOT / 'configs').rglob(f'{config}.py')
        train = ('-m', 'mim', 'train', 'mmsegmentation', path, *options, *amp)
        jobs.append(_python(f'camvid-{short}', 240, *train, '--cfg-options', *overrides))
    return Stage('camvid', 'training on real images and the mIoU after it', 480, tuple(jobs))
