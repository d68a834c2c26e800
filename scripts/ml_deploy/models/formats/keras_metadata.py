"""Keras 2's part of a SavedModel: the layers' configurations in `keras_metadata.pb` or, before TensorFlow 2.5, in the graph's file.

Keras finds it by its name alone, so it is known by its name here too: whatever has it is read as this and nothing else.
"""

from __future__ import annotations

import json

from ml_deploy.models import keras_config
from ml_deploy.models.anatomy import Anatomy
from ml_deploy.models.context import Context
from ml_deploy.models.findings import Unreadable
from ml_deploy.models.source import Member
from ml_deploy.models.wire import fields

NAME = "keras-metadata"
_FILE = "keras_metadata.pb"
_LONGEST = 256 << 20  # bytes
_NODES, _METADATA = 1, 5  # of SavedMetadata, of its nodes
#: SavedObjectGraph in MetaGraphDef, its nodes, what kind they are, what Keras wrote to those of its own.
_OBJECTS, _USER_OBJECT, _IDENTIFIER, _OBJECT_METADATA = 7, 4, 1, 3
_OWN = b"_tf_keras_"


def named(member: Member, context: Context) -> bool:
    """Whether Keras would read this file as a SavedModel's metadata."""
    return (member.name or context.path).replace("\\", "/").rpartition("/")[2].lower() == _FILE


def sniff(head: bytes) -> bool:
    """Its content does not matter: see `named`."""
    return True


def inspect(member: Member, context: Context) -> Anatomy:
    """Every layer's, model's and metric's configuration."""
    with member.open() as source:
        data = source.read(_LONGEST + 1)
    if len(data) > _LONGEST:
        raise Unreadable("it has more than 256 MiB", rule="budget")
    for node in fields(data, _NODES):
        for text in fields(node, _METADATA):
            _judge(text, context)
    return Anatomy(format=NAME, framework="keras")


def judge_objects(graph: memoryview, context: Context) -> None:
    """The same, written into a meta graph."""
    for objects in fields(graph, _OBJECTS):
        for node in fields(objects, _NODES):
            own = list(fields(node, _USER_OBJECT))
            if any(bytes(one).startswith(_OWN) for user in own for one in fields(user, _IDENTIFIER)):
                for text in (one for user in own for one in fields(user, _OBJECT_METADATA) if one):
                    _judge(text, context)


def _judge(text: memoryview, context: Context) -> None:
    try:
        config = json.loads(bytes(text))
    except (ValueError, RecursionError) as error:
        raise Unreadable("the configuration of a layer is no valid JSON") from error
    keras_config.judge(config, context)
