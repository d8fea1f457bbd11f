import prices


def handler(event, context):
    thing = (event.get("queryStringParameters") or event).get("thing", "apple")
    return {"thing": thing, "price": prices.OF.get(thing)}
