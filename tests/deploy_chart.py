"""Helm on a chart, as a program of the tools' environment (see deploy_tools.py).

deploy_chart.py CHART VALUES [KUBERNETES VERSION …]: lints and renders
the chart, checks every manifest against Kubernetes' schemas, and prints
{"lint": [...], "problem": null or text, "manifests": [...]}.
"""

import json
import sys

import helm_python
import helm_python.chart
import kubernetes_validate
import yaml


def main(chart, values, *versions):
    with open(values) as file:
        given = yaml.safe_load(file) or {}
    report = helm_python.chart.lint(chart, given, strict=True)
    # 2 is a warning, 3 an error; an icon is for catalogues of charts.
    messages = [message for message in report["messages"] if message["severity"] >= 2]
    answer = {"lint": [*report["errors"], *messages], "problem": None, "manifests": []}
    try:
        with helm_python.chart.Chart.load(chart) as loaded:
            rendered = loaded.render(given, name="events", namespace="lake")
        for name, text in sorted(rendered.items()):
            if not name.endswith(".yaml"):
                continue
            answer["manifests"] += [document for document in yaml.safe_load_all(text) if document]
        for manifest in answer["manifests"]:
            # Kubernetes' own schemas know no kinds of the Prometheus operator.
            if manifest["apiVersion"].startswith("monitoring.coreos.com/"):
                continue
            for version in versions:
                kubernetes_validate.validate(manifest, version, strict=True)
    except (helm_python.HelmError, kubernetes_validate.ValidationError) as error:
        answer["problem"] = f"{type(error).__name__}: {error}"
    print(json.dumps(answer))


if __name__ == "__main__":
    main(*sys.argv[1:])
