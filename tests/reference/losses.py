"""The losses as their papers write them, in float64, one row at a time."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray


def log_softmax(row: NDArray) -> NDArray[np.float64]:
    shifted = np.asarray(row, np.float64) - np.max(row)
    return shifted - math.log(math.fsum(np.exp(shifted)))


def cross_entropy(logits: NDArray, targets: NDArray) -> float:
    rows = zip(logits, targets, strict=True)
    return -math.fsum(log_softmax(row)[target] for row, target in rows) / len(logits)


def kd(student: NDArray, teacher: NDArray, temperature: float) -> float:
    """T² · batch mean of Σ_c p_t log(p_t / p_s), both softened by T."""
    total = 0.0
    for student_row, teacher_row in zip(student, teacher, strict=True):
        log_s = log_softmax(np.asarray(student_row, np.float64) / temperature)
        log_t = log_softmax(np.asarray(teacher_row, np.float64) / temperature)
        p = np.exp(log_t)
        total += math.fsum(np.where(p > 0, p * (log_t - log_s), 0.0))
    return temperature**2 * total / len(student)


def kd_gradient(student: NDArray, teacher: NDArray, temperature: float) -> NDArray[np.float64]:
    """The gradient of `kd` by the student's logits: T / B · (p_s - p_t)."""
    rows = []
    for student_row, teacher_row in zip(student, teacher, strict=True):
        p_s = np.exp(log_softmax(np.asarray(student_row, np.float64) / temperature))
        p_t = np.exp(log_softmax(np.asarray(teacher_row, np.float64) / temperature))
        rows.append(temperature / len(student) * (p_s - p_t))
    return np.array(rows)
