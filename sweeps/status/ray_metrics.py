"""Ray metrics of a running sweep, for Prometheus and Grafana: ``ray_kvcomm_...``, each with the tag ``sweep``."""

from ray.util.metrics import Counter, Gauge

from sweeps.status.running_file import Snapshot


class RayMetrics:
    """Exports the snapshots it is called with. Needs a connection to Ray."""

    def __init__(self, sweep: str) -> None:
        self._tags = {"sweep": sweep}
        self._trials = Gauge(
            "kvcomm_trials",
            "Trials of the sweep's current run by status: ok, error, oom, timeout, killed, running, waiting.",
            tag_keys=("sweep", "status"),
        )
        self._samples = Counter("kvcomm_samples_done_total", "Samples finished in the current run.", ("sweep",))
        self._rate = Gauge("kvcomm_trials_per_minute", "Trials ended per minute of the current run.", ("sweep",))
        self._left = Gauge("kvcomm_seconds_left", "Until the current run ends, by the work done so far.", ("sweep",))
        self._replicas = Gauge("kvcomm_replicas_ready", "Replicas that have started.", ("sweep",))
        self._counted = 0

    def __call__(self, snapshot: Snapshot) -> None:
        """Export one snapshot, without values that are not known yet."""
        unfinished = {"running": snapshot.n_running, "waiting": snapshot.n_waiting}
        for status, count in {**snapshot.n_by_status, **unfinished}.items():
            self._trials.set(count, {**self._tags, "status": status})
        if snapshot.samples_done > self._counted:
            self._samples.inc(snapshot.samples_done - self._counted, self._tags)
            self._counted = snapshot.samples_done
        self._replicas.set(snapshot.replicas_ready, self._tags)
        for gauge, value in ((self._rate, snapshot.trials_per_minute), (self._left, snapshot.seconds_left)):
            if value is not None:
                gauge.set(value, self._tags)
