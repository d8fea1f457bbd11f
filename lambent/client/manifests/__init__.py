"""Manifests of whole services, as people have them: the Serverless Framework's serverless.yml, SAM's template.yaml.

reading.py     which manifest a folder has
serverless.py  what a serverless.yml asks for
sam.py         what a template asks for
documents.py   YAML as those who write manifests know it
variables.py   ${...}: what stands for values that are elsewhere
references.py  Ref and its kind: what stands for resources
shapes.py      what a value must be
plan.py        what is to be there afterwards, in the API's own words
patterns.py    which files a package has
applying.py    what it takes to get there
"""
