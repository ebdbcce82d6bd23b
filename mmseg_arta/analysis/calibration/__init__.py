"""Settings of allocation policies, from the data they will meet."""

from .caps import LabelMaps, calibrate_caps, required_shares
from .costs import fit_token_costs
from .fragment import policy_fragment, with_setting, write_fragment
from .thresholds import BackboneInputs, ThresholdSearch, calibrate_thresholds, token_cost

__all__ = [
    'BackboneInputs',
    'LabelMaps',
    'ThresholdSearch',
    'calibrate_caps',
    'calibrate_thresholds',
    'fit_token_costs',
    'policy_fragment',
    'required_shares',
    'token_cost',
    'with_setting',
    'write_fragment',
]
