"""Manifests of whole services, as people have them: the Serverless Framework's serverless.yml.

documents.py   YAML as those who write manifests know it
variables.py   ${...}: what stands for values that are elsewhere
references.py  Ref and its kind: what stands for resources
serverless.py  what a manifest asks for
plan.py        what is to be there afterwards, in the API's own words
patterns.py    which files a package has
applying.py    what it takes to get there
"""
