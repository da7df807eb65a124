"""The monitor: a read-only viewer over run directories (no torch, no numpy).

tail.py               what is new in a run, read in a worker thread    messages.py    what the tails tell
lines.py              files of JSON lines that are being written       log_file.py    a log of any size
rows.py, series.py    rows in columns; curves, smoothing, buckets      view.py        the part that is shown
axis.py, braille.py   from values to dots                              evaluation.py  figures of `di4c eval`
pictures.py           preview grids back to their tiles                pixels.py      kitty and sixel
drawing.py            new samples from a process of its own            opening.py     the system's viewer
settings.py           what is remembered                               machine.py     CPU, memory, GPU
screens/              runs (the list), run, compare, questions         widgets/       what they are made of
frame.py              one frame as text
"""
