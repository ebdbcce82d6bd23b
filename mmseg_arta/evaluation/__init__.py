"""Metrics that stock mmseg lacks."""

from .grouped_iou import GroupedIoUMetric

__all__ = ['GroupedIoUMetric']
