"""The monitor: a read-only viewer over run directories (no torch, no numpy).

tail.py       follows files in a worker thread and hands out the messages of messages.py
series.py     curves: branch, smoothing, buckets    axis.py, braille.py   from values to dots
pictures.py   preview grids back to their tiles     frame.py              one frame as text
screens/      runs (the list), run (one run), help  widgets/              what they are made of
"""
