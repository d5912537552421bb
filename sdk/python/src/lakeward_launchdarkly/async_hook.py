"""The hook for the asynchronous client of launchdarkly-server-sdk 9.17 and
later."""

from typing import Any

from ldclient.hook import AsyncHook, EvaluationSeriesContext, Metadata

from .hook import Recorder


class AsyncLakewardHook(Recorder, AsyncHook):
    """As :class:`LakewardHook`, for ``AsyncLDClient``."""

    @property
    def metadata(self) -> Metadata:
        """The hook's name."""
        return Metadata(name="lakeward-launchdarkly")

    async def before_evaluation(self, series_context: EvaluationSeriesContext, data: dict) -> dict:
        """Nothing happens before."""
        return data

    async def after_evaluation(self, series_context: EvaluationSeriesContext, data: dict, detail: Any) -> dict:
        """Takes note of the evaluation."""
        self.record(series_context, detail)
        return data
