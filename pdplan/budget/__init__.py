"""Budgets: limits on deployments, what was found, and what to edit. For CI.

measures   what can be limited: name, unit, direction
read       a budget file -> Budget
trial      a deployment's measures, under its plan or an edited one
edits      which line of a plan to edit, each suggestion evaluated
judge      Budget -> Check
baseline   what changed since an earlier check
result     the types between them
"""
