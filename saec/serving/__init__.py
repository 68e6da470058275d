"""Scoring with a published version: numpy and safetensors' format only, no torch, no pydantic, no Arrow.

>>> from saec.serving import Model
"""

from saec.data.schema import Field, Schema
from saec.serving.model import Model

__all__ = ["Field", "Model", "Schema"]
