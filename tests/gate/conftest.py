"""Planted gate rows: labels and models whose quality is known because it was put there."""

import numpy as np
import pytest


def sigmoid(logits_B):
    """Probabilities of logits."""
    return 1.0 / (1.0 + np.exp(-logits_B))


class Planted:
    """Rows whose true click probability is known; a model sees its logit through noise of its own."""

    def __init__(self, rows, seed=7):
        self.random = np.random.default_rng(seed)
        self.logits_B = self.random.normal(-1.0, 1.5, rows)
        self.labels_B = (self.random.random(rows) < sigmoid(self.logits_B)).astype(np.uint8)

    def model(self, noise=0.0, shift=0.0):
        """Probabilities: worse in AUC by `noise`, in log loss alone by `shift` of the logit."""
        noise_B = noise * self.random.normal(size=self.logits_B.size)
        return sigmoid(self.logits_B + noise_B + shift)


@pytest.fixture
def planted():
    """Makes planted rows: `planted(rows, seed)`."""
    return Planted
