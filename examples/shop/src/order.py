import os


def handler(event, context):
    return {"table": os.environ["TABLE"], "stage": os.environ["STAGE"], "version": context.function_version}
