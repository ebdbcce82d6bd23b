"""MMSegmentation's or MMPretrain's tools/test.py with mmseg_arta registered.

`mim test mmseg_arta` runs it. Whose script it is follows from the config; all options are
those of the stock script.
"""

from mmseg_arta._stock_tools import run_stock_tool

if __name__ == '__main__':
    run_stock_tool('test.py')
