"""What the stock segmentors cannot do."""

from .batched_slide import BatchedSlideEncoderDecoder
from .score_tta import ScoreTTAModel

__all__ = ['BatchedSlideEncoderDecoder', 'ScoreTTAModel']
