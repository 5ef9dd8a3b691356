"""What `python -m tinyfcn.benchmark` measures, one file for each kind of figure."""
