#!/usr/bin/env python3
"""A whole cluster inside this process: starts it, applies a manifest, watches pods until one runs, and takes
everything off the machine again.

    watch_pods.py DATA_DIR MANIFEST [IMAGES]
"""

import sys
from pathlib import Path

import orchestra


def watch_until_running(client: orchestra.Client) -> bool:
    for event in client.watch("v1", "pods", timeout=60):
        pod = event["object"]
        phase = pod.get("status", {}).get("phase", "-")
        print(f"{event['type']} {pod['metadata']['name']} is {phase}")
        if phase == "Running":
            return True
    return False


def main() -> int:
    if len(sys.argv) < 3:
        print("usage: watch_pods.py DATA_DIR MANIFEST [IMAGES]", file=sys.stderr)
        return 2
    data_dir, manifest, *images = sys.argv[1:4]
    options = {"listen": "127.0.0.1:0", "ingress": "127.0.0.1:0", "preload": images}
    with orchestra.Cluster(data_dir=data_dir, **options) as cluster:
        print("the API is at", cluster.info["api_address"])
        try:
            client = cluster.client()
            print("applied", client.apply(Path(manifest).read_text()), "objects")
            running = watch_until_running(client)
        finally:
            cluster.down()
    print("a pod is Running" if running else "no pod was running in time")
    return 0 if running else 1


if __name__ == "__main__":
    try:
        sys.exit(main())
    except orchestra.OrchestraError as error:
        sys.exit(f"watch_pods: {error}")
