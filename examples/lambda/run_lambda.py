"""Runs a Firehose transform on this machine: python3 run_lambda.py lambda_function.py[:handler]

Takes events on standard input, one line of JSON each, and writes replies to standard output, one line each. What the
function prints goes to standard error. A handler that raises is answered as AWS Lambda answers it.
"""
import importlib.util, json, os, sys, traceback, types

path, _, handler = sys.argv[1].partition(":")
replies, sys.stdout = sys.stdout, sys.stderr
sys.path.insert(0, os.path.dirname(os.path.abspath(path)))
spec = importlib.util.spec_from_file_location("lambda_function", path)
module = importlib.util.module_from_spec(spec)
spec.loader.exec_module(module)
for line in sys.stdin:
    event = json.loads(line)
    try:
        context = types.SimpleNamespace(function_name=path, aws_request_id=event["invocationId"])
        reply = getattr(module, handler or "lambda_handler")(event, context)
    except Exception as error:
        traceback.print_exc()
        reply = {"errorMessage": str(error), "errorType": type(error).__name__}
    print(json.dumps(reply), file=replies, flush=True)
