"""The server of generated images: copied into them as it is, and started by `python -m serving`.

It speaks the Open Inference Protocol v2 and a plain `/predict`. Only `protocol.py` and `models.py`
know numpy, only `app.py` knows HTTP; nothing here imports the rest of ml-deploy.
"""
