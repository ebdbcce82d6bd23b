"""From the layouts of published checkpoints to ours."""

from .arta import convert_arta_backbone
from .rules import rename_keys

__all__ = ['convert_arta_backbone', 'rename_keys']
