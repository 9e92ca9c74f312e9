"""Findings of the committed claims."""

from judged_claims import claims, conditions, findings, judged, make_run, models, our_session

__all__ = ["claims", "conditions", "findings", "judged", "make_run", "models", "our_session"]
