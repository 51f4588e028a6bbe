"""The server: Bundles answer over the Open Inference Protocol, in processes of their own.

refusals      why a request gets no answer, and how each protocol says so
tensors       from a request's tensors to pictures, and from logits to a response's tensors
batching      requests that wait, the batches made of them, deadlines and cancellation
workers       processes that hold an engine; a crashed or hung one is replaced
worker        what runs in such a process
choice        processes, threads and batch of a model, from the table's rows
models        the Bundles that are served, by name and version: loading, unloading, reloading
statistics    counts and times of one model, which add up
metrics       the same as Prometheus reads them
access        tokens, hosts, certificates
protocol      the protocol's bodies over HTTP
tracing       a request's number and trace context
logs          what the server says of itself
door          what every request over HTTP passes first
management    what clients may ask of the repository
connections   clients that send too slowly
app           the protocol over HTTP, as an ASGI application
hosted        the same with its models, for another ASGI server
pages         what a browser is shown, and `openapi`, the document of the protocol
messages      protobuf's messages from a `.proto` file
rpc           the protocol over gRPC
paddle        the messages of Paddle Serving's GeneralModelService
brpc          baidu_std, which carries them
server        ports, start, drain and stop
"""
