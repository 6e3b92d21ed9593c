"""Several kinds of workers on shared accelerators, by integer programming.

A mix is the pools of one deployment with several kinds of workers; a fleet is several deployments.

ways         the ways to serve one deployment, as curves of kinds of workers
capacity     how many requests so many workers of a kind serve: what the curves are made of
certificate  a bound that no deployment can undercut
programme    whole numbers of workers at least cost
apart        the programme of large fleets, deployment by deployment
narrowed     which kinds of workers are worth following there
fleet        several deployments at least cost
fleet_plan   what that comes to: plans, the bill, what stands in the way
mix          one deployment whose pools may be mixed
goodput_mix  the most that mixed pools serve within a budget
"""
