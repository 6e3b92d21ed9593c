"""Flags, YAML files and Python arguments become questions, plans and the world they live in.

    given       one value and where it stands; all errors of an input at once
    schemas     what a question file and a plan file may hold
    quantities  values with units become a Workload, an Slo, a network, prices
    names       which catalog entries, formats, engines are meant
    questions   -> Question and World
    deployments -> Plan, Workload, Slo and World
    consistency what a plan cannot be

A bare number is seconds for a time, requests per second for a rate, tokens for a length.
"""

from pdplan.inputs.deployments import Deployment, deployment_from, read_deployment
from pdplan.inputs.given import Findings, Given, given, sub_document
from pdplan.inputs.questions import Asked, question_from, read_question

__all__ = [
    "Asked",
    "Deployment",
    "Findings",
    "Given",
    "deployment_from",
    "given",
    "question_from",
    "read_deployment",
    "read_question",
    "sub_document",
]
