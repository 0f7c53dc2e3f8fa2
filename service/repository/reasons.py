"""Reasons in the repository's index: why a version is not served, or lacks a requested setting."""

from __future__ import annotations

from gatewave.service.repository import folder as folders
from gatewave.service.repository.config import Config
from gatewave.service.repository.folder import ModelPlan
from gatewave.service.repository.model import RepositoryModel
from gatewave.service.repository.trial.messages import TrialReport

UNREADABLE = "the model's folder cannot be read"
NOT_LOADED = "the model is not loaded"
UNLOADED = "the model was unloaded"
INVALID_VERSION = "a version must be a positive integer without leading zeros"
INVALID_NAME = f"the name of a model must match {folders.NAME.pattern}"


def name_taken(name: str) -> str:
    """Return the reason to refuse a folder that is named like an activation."""
    return f"{name} is the name of an activation: rename the folder"


def of_served(model: RepositoryModel, plan: ModelPlan) -> str:
    """Return the reason why a requested setting of a served model has no effect, or an empty text.

    An admin's load tries a version with a reason again although no file has changed (see
    `Reconciler.forget_refusals`). That is useful only if config.yaml requests batching.
    """
    is_requested = "batching" in plan.config.model_fields_set and plan.config.batching.mode != "off"
    return model.batching_note if is_requested and model.batching is None else ""


def of_isolation(config: Config, report: TrialReport) -> str:
    """Return the reason to compute a model in processes of its own, or an empty text."""
    if config.isolation == "process":
        return "config.yaml requests it"
    return report.hazard if config.isolation == "auto" else ""
