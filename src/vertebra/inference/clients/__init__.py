"""Asking a server over the Open Inference Protocol, as a load generator does: prepared requests, sent without
waiting, by HTTP or gRPC.

addresses   what a URL names: a server, and perhaps a model and its version
inputs      what is sent: tensors that fit the model's metadata, or encoded photographs
over_http   a pool of connections
over_grpc   some channels
"""
