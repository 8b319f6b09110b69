"""The losses as their papers write them, in float64, one row at a time."""

from __future__ import annotations

import math
import statistics

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


def softmax(row: NDArray) -> list[float]:
    return [math.exp(value) for value in log_softmax(row)]


def standardise(row: NDArray) -> list[float]:
    """LSKD: (z - mean) / (1e-7 + std), with n - 1 under the root."""
    values = [float(value) for value in row]
    if min(values) == max(values):
        return [0.0 for _ in values]
    mean = math.fsum(values) / len(values)
    variance = math.fsum((value - mean) ** 2 for value in values) / (len(values) - 1)
    return [(value - mean) / (1e-7 + math.sqrt(variance)) for value in values]


def swap(row: NDArray, label: int) -> list[float]:
    """SLD: if the label is not the largest, the two exchange their values."""
    values = [float(value) for value in row]
    largest = values.index(max(values))
    if values[label] != values[largest]:
        values[label], values[largest] = values[largest], values[label]
    return values


def tckd(student: NDArray, teacher: NDArray, targets: NDArray, temperature: float) -> float:
    """T² · batch mean of KL between (p_y, 1 - p_y)."""
    total = 0.0
    for student_row, teacher_row, y in zip(student, teacher, targets, strict=True):
        log_s = _target_and_rest(np.asarray(student_row, np.float64) / temperature, y)
        log_t = _target_and_rest(np.asarray(teacher_row, np.float64) / temperature, y)
        for t, s in zip(log_t, log_s, strict=True):
            if math.exp(t) > 0:
                total += math.exp(t) * (t - s)
    return temperature**2 * total / len(student)


def _target_and_rest(row: NDArray, label: int) -> tuple[float, float]:
    """The logarithms of p_y and of 1 - p_y, the latter as the sum of all others."""
    log_p = log_softmax(row)
    others = [float(value) for c, value in enumerate(log_p) if c != label]
    if not others:
        return float(log_p[label]), -math.inf
    most = max(others)
    return float(log_p[label]), most + math.log(math.fsum(math.exp(o - most) for o in others))


def nckd(student: NDArray, teacher: NDArray, targets: NDArray, temperature: float) -> float:
    """T² · batch mean of KL between softmax(z / T - 1000 · onehot(y))."""
    total = 0.0
    for student_row, teacher_row, y in zip(student, teacher, targets, strict=True):
        mask = [1000.0 if c == y else 0.0 for c in range(len(student_row))]
        log_s = log_softmax(np.asarray(student_row, np.float64) / temperature - mask)
        log_t = log_softmax(np.asarray(teacher_row, np.float64) / temperature - mask)
        total += math.fsum(math.exp(t) * (t - s) for t, s in zip(log_t, log_s, strict=True))
    return temperature**2 * total / len(student)


def ctkd_temperature(theta: float) -> float:
    return 1 + 20 / (1 + math.exp(-theta))


def mlkd(
    student: tuple[NDArray, NDArray],
    teacher: tuple[NDArray, NDArray],
    base: float,
    *,
    standardised: bool = False,
) -> tuple[float, float, float]:
    """MLKD's KL, CC and BC as released, of (weak, strong) logits and the base temperature."""
    every = [base, 3.0, 5.0, 2.0, 6.0]
    m, c = fractions(teacher[0])
    prepare = (lambda z: np.array([standardise(row) for row in z])) if standardised else np.array
    weak = prepare(student[0]), prepare(teacher[0])
    strong = prepare(student[1]), prepare(teacher[1])
    kl = m * sum(kd(*weak, t) for t in every)
    kl += sum(kd(*strong, t) for t in (base, 3.0, 5.0)) + sum(kd(*weak, t) for t in (2.0, 6.0))
    cc = c * sum(class_correlation(student[0], teacher[0], t) for t in every)
    bc = m * sum(batch_correlation(student[0], teacher[0], t) for t in every)
    return kl, cc, bc


def fractions(teacher: NDArray) -> tuple[float, float]:
    """The shares of images and of classes whose confidence is at most the median one."""
    p = [softmax(row) for row in teacher]
    by_image = [max(row) for row in p]
    by_class = [math.fsum(column) for column in zip(*p, strict=True)]
    return at_most_median(by_image), at_most_median(by_class)


def at_most_median(values: list[float]) -> float:
    middle = statistics.median(values)
    return sum(value <= middle for value in values) / len(values)


def class_correlation(student: NDArray, teacher: NDArray, temperature: float) -> float:
    s, t = (_probabilities(logits, temperature) for logits in (student, teacher))
    classes = range(len(s[0]))
    total = 0.0
    for i in classes:
        for j in classes:
            own = math.fsum(row[i] * row[j] for row in s)
            total += (math.fsum(row[i] * row[j] for row in t) - own) ** 2
    return total / len(classes)


def batch_correlation(student: NDArray, teacher: NDArray, temperature: float) -> float:
    s, t = (_probabilities(logits, temperature) for logits in (student, teacher))
    total = 0.0
    for i in range(len(s)):
        for j in range(len(s)):
            own = math.fsum(a * b for a, b in zip(s[i], s[j], strict=True))
            total += (math.fsum(a * b for a, b in zip(t[i], t[j], strict=True)) - own) ** 2
    return total / len(s)


def _probabilities(logits: NDArray, temperature: float) -> list[list[float]]:
    return [softmax(np.asarray(row, np.float64) / temperature) for row in logits]


def sld_teacher(
    student: NDArray, teacher: NDArray, targets: NDArray, temperatures: tuple[float, ...]
) -> float:
    """Σ_T KL_T(s, swap(t)) of one view."""
    swapped = np.array([swap(row, y) for row, y in zip(teacher, targets, strict=True)])
    return sum(kd(student, swapped, t) for t in temperatures)


def sld_second_teacher(
    student: NDArray, targets: NDArray, temperatures: tuple[float, ...]
) -> float:
    """Σ_T KL_T(s, swap(s)) of one view."""
    return sld_teacher(student, student, targets, temperatures)
