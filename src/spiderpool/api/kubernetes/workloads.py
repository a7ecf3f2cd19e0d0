"""
Kubernetes' own controllers of pods, as far as automatic pools ask.

How many pods, and what their template says.
"""

from __future__ import annotations

from typing import ClassVar, Final

from spiderpool.api.kubernetes.meta import Kube, KubeObject, ObjectMeta, Resource


class TemplateSpec(Kube, frozen=True, kw_only=True):
    """Specification in a template of pods."""

    host_network: bool = False


class PodTemplate(Kube, frozen=True, kw_only=True):
    """A template of pods."""

    metadata: ObjectMeta = ObjectMeta()
    spec: TemplateSpec = TemplateSpec()


class JobSpec(Kube, frozen=True, kw_only=True):
    """How many pods a job runs."""

    completions: int | None = None
    parallelism: int | None = None
    template: PodTemplate = PodTemplate()


class JobTemplate(Kube, frozen=True, kw_only=True):
    """A template of jobs."""

    spec: JobSpec = JobSpec()


class WorkloadSpec(JobSpec, frozen=True, kw_only=True):
    """The fields of all kinds together: each kind has some of them."""

    replicas: int | None = None
    job_template: JobTemplate | None = None


class WorkloadStatus(Kube, frozen=True, kw_only=True):
    """What a DaemonSet's controller counted."""

    desired_number_scheduled: int = 0


class Workload(KubeObject, frozen=True, kw_only=True):
    """A controller of pods."""

    spec: WorkloadSpec = WorkloadSpec()
    status: WorkloadStatus = WorkloadStatus()

    @property
    def template(self) -> PodTemplate:
        """The template of its pods; a CronJob's is inside that of its jobs."""
        return (
            self.spec.template
            if self.spec.job_template is None
            else self.spec.job_template.spec.template
        )


class Deployment(Workload, frozen=True, kw_only=True):
    """A Deployment."""

    resource: ClassVar[Resource] = Resource(
        "apps", "v1", "Deployment", "deployments", namespaced=True
    )


class ReplicaSet(Workload, frozen=True, kw_only=True):
    """A ReplicaSet."""

    resource: ClassVar[Resource] = Resource(
        "apps", "v1", "ReplicaSet", "replicasets", namespaced=True
    )


class StatefulSet(Workload, frozen=True, kw_only=True):
    """A StatefulSet."""

    resource: ClassVar[Resource] = Resource(
        "apps", "v1", "StatefulSet", "statefulsets", namespaced=True
    )


class DaemonSet(Workload, frozen=True, kw_only=True):
    """A DaemonSet."""

    resource: ClassVar[Resource] = Resource(
        "apps", "v1", "DaemonSet", "daemonsets", namespaced=True
    )


class Job(Workload, frozen=True, kw_only=True):
    """A Job."""

    resource: ClassVar[Resource] = Resource("batch", "v1", "Job", "jobs", namespaced=True)


class CronJob(Workload, frozen=True, kw_only=True):
    """A CronJob."""

    resource: ClassVar[Resource] = Resource("batch", "v1", "CronJob", "cronjobs", namespaced=True)


WORKLOADS: Final[tuple[type[Workload], ...]] = (
    Deployment,
    ReplicaSet,
    StatefulSet,
    DaemonSet,
    Job,
    CronJob,
)


class ScaleSpec(Kube, frozen=True, kw_only=True):
    """How many replicas are wanted."""

    replicas: int = 0


class Scale(KubeObject, frozen=True, kw_only=True):
    """The scale subresource, which any kind may have (autoscaling/v1)."""

    resource: ClassVar[Resource] = Resource("autoscaling", "v1", "Scale", "")

    spec: ScaleSpec = ScaleSpec()
