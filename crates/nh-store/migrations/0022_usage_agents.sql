-- The agent whose run made a call, so that it is known when the run is not any more.
alter table model_calls add column agent TEXT;
