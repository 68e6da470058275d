"""Scoring with a published version: numpy and safetensors only."""
