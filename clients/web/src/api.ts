// The page about the API: a viewer of openapi.json, which tries calls on the mesh that serves it.
import "openapi-explorer";
