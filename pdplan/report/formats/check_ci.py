"""A check for CI systems: GitHub's workflow annotations and JUnit's XML."""

from __future__ import annotations

from xml.sax.saxutils import escape, quoteattr

from pdplan.budget.result import Check, Finding, Spot
from pdplan.report.check import explain, headline, risk_words, suggestions


def render_github(check: Check) -> str:
    """One `::error` a breach, on the line to edit; GitHub shows it in the pull request's diff.

    A limit that holds at the estimate alone is a `::notice`.

    Source: docs.github.com, "Workflow commands for GitHub Actions".
    """
    lines = [_annotation("error", f) for f in check.breaches]
    lines += [_risk(f) for f in check.at_risk]
    level = "error" if check.breaches else "notice"
    return "\n".join([*lines, f"::{level} title=pdplan check::{_data(headline(check))}"]) + "\n"


def _annotation(level: str, finding: Finding) -> str:
    title = f"{finding.deployment}: {finding.limit.measure.key} over budget"
    message = "\n".join([explain(finding), *suggestions(finding)])
    return _on_line(level, finding.edit_spot or finding.limit.spot, title, message)


def _risk(finding: Finding) -> str:
    title = f"{finding.deployment}: {finding.limit.measure.key} met at the estimate alone"
    return _on_line("notice", finding.limit.spot, title, risk_words(finding))


def _on_line(level: str, spot: Spot, title: str, message: str) -> str:
    place = {"file": spot.path, "line": spot.line, "col": spot.column}
    properties = {**{k: v for k, v in place.items() if v is not None}, "title": title}
    listed = ",".join(f"{k}={_property(str(v))}" for k, v in properties.items())
    return f"::{level} {listed}::{_data(message)}"


def _data(text: str) -> str:
    return text.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")


def _property(text: str) -> str:
    return _data(text).replace(":", "%3A").replace(",", "%2C")


def render_junit(check: Check) -> str:
    """A test suite a deployment, a test case a limit; GitLab, Jenkins and others show it."""
    suites = [(d.deployment.name, d.findings) for d in check.deployments]
    suites += [("total", check.total)] if check.total else []
    lines = ['<?xml version="1.0" encoding="UTF-8"?>']
    counts = f'tests="{len(check.findings)}" failures="{len(check.breaches)}"'
    lines.append(f'<testsuites name="pdplan check" {counts}>')
    for name, findings in suites:
        failed = sum(f.status == "breached" for f in findings)
        skipped = sum(f.status == "not judged" for f in findings)
        counts = f'tests="{len(findings)}" failures="{failed}" skipped="{skipped}"'
        lines.append(f"  <testsuite name={quoteattr(name)} {counts}>")
        for finding in findings:
            lines += _case(name, finding)
        lines.append("  </testsuite>")
    return "\n".join([*lines, "</testsuites>"]) + "\n"


def _case(name: str, finding: Finding) -> list[str]:
    spot: Spot = finding.limit.spot
    head = f"    <testcase classname={quoteattr(name)} name={quoteattr(finding.limit.measure.key)}"
    head += f" file={quoteattr(spot.path)}" + (f' line="{spot.line}"' if spot.line else "")
    if finding.status == "met":
        return [f"{head}/>"]
    if finding.status == "not judged":
        return [f"{head}>", f"      <skipped message={quoteattr(finding.reason)}/>", "    </testcase>"]
    body = escape("\n".join(suggestions(finding)))
    failure = f"      <failure message={quoteattr(explain(finding))}>{body}</failure>"
    return [f"{head}>", failure, "    </testcase>"]
