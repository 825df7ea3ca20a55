"""What is promised and how it is proven.

`goal`, `metrics` and `scores` say what is kept, `promise` how surely, `binomial` and `sequence` prove it;
`thresholds` are what is tested where one distance decides. Numbers in, numbers out: no models, no files.
"""
