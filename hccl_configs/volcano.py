"""The YAML of a Volcano job on Kubernetes: a config map with the script, and the job that runs it on every server.

Covers: Volcano's batch.volcano.sh/v1alpha1, Ascend's device plugin (huawei.com/Ascend910) with its container runtime.
Does not cover: Ascend Operator's own job type (acjob); queues, tolerations and node selectors: edit the YAML.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mindgeex.hccl_configs.launch import LaunchConfig

SCRIPT_FOLDER = "/mindgeex-launch"
"""A file, not an argument: Kubernetes replaces $(NAME) in arguments."""


def volcano_job(config: "LaunchConfig", script: str) -> str:
    """Two YAML documents: the config map and the job."""
    import yaml

    class Dumper(yaml.SafeDumper):
        """Writes texts of several lines as blocks."""

    def text(dumper: yaml.SafeDumper, value: str) -> yaml.ScalarNode:
        return dumper.represent_scalar("tag:yaml.org,2002:str", value, style="|" if "\n" in value else None)

    Dumper.add_representer(str, text)
    name = config.name.lower()
    config_map = {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": f"{name}-launch"},
        "data": {"launch.sh": script},
    }
    documents = [config_map, _job(config, name)]
    return "".join("---\n" + yaml.dump(d, Dumper=Dumper, sort_keys=False, allow_unicode=True) for d in documents)


def _job(config: "LaunchConfig", name: str) -> dict[str, Any]:
    return {
        "apiVersion": "batch.volcano.sh/v1alpha1",
        "kind": "Job",
        "metadata": {"name": name},
        "spec": {
            "schedulerName": "volcano",
            "minAvailable": config.nodes,
            "plugins": {"svc": [], "env": []},
            "policies": [{"event": "PodFailed", "action": "AbortJob"}, {"event": "PodEvicted", "action": "RestartJob"}],
            "tasks": [
                {
                    "name": "worker",
                    "replicas": config.nodes,
                    "policies": [{"event": "TaskCompleted", "action": "CompleteJob"}],
                    "template": {"spec": _pod(config, name)},
                }
            ],
        },
    }


def _pod(config: "LaunchConfig", name: str) -> dict[str, Any]:
    mounts = [{"name": "launch", "mountPath": SCRIPT_FOLDER}, {"name": "shm", "mountPath": "/dev/shm"}]
    volumes: list[dict[str, Any]] = [
        {"name": "launch", "configMap": {"name": f"{name}-launch"}},
        {"name": "shm", "emptyDir": {"medium": "Memory"}},
    ]
    if config.claim is not None:
        mounts.append({"name": "work", "mountPath": config.workdir})
        volumes.append({"name": "work", "persistentVolumeClaim": {"claimName": config.claim}})
    container: dict[str, Any] = {
        "name": "worker",
        "image": config.image,
        "command": ["bash", f"{SCRIPT_FOLDER}/launch.sh"],
        "ports": [{"containerPort": config.port, "name": "scheduler"}],
        "volumeMounts": mounts,
    }
    if config.device_target == "Ascend":
        npus = {"huawei.com/Ascend910": config.devices}
        container["resources"] = {"requests": npus, "limits": dict(npus)}
    return {
        "restartPolicy": "Never",
        "terminationGracePeriodSeconds": 600,
        "containers": [container],
        "volumes": volumes,
    }
