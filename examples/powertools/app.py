"""Structured logs and typed routes with aws-lambda-powertools, unchanged from how it is used on AWS."""

from aws_lambda_powertools import Logger
from aws_lambda_powertools.event_handler import APIGatewayHttpResolver

logger = Logger(service="shop")
app = APIGatewayHttpResolver()


@app.get("/orders/<order_id>")
def order(order_id):
    logger.info("order asked for", extra={"order_id": order_id})
    return {"orderId": order_id, "state": "shipped"}


@logger.inject_lambda_context(log_event=False)
def handler(event, context):
    return app.resolve(event, context)
