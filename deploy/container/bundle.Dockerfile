# A model as an image: a backbone that `textcam export` wrote and its bank. The tag is the model's
# version. Built from a folder that holds backbone/ and bank/:
#   docker build -f deploy/container/bundle.Dockerfile -t textcam-bundle:photos-1 build/bundle
# An init container copies it to where the server reads it, hence a base with `cp`.
FROM busybox:1.37.0
COPY backbone /bundle/backbone
COPY bank /bundle/bank
USER 65532:65532
CMD ["cp", "-r", "/bundle/.", "/models"]
